"""Latency of TFLite models: measured here or on another device, or estimated by a vendor's tool."""
