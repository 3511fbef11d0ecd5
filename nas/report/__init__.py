"""What people read: networks and runs as text and as HTML."""
