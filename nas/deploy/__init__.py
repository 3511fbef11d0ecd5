"""From a network to a device: TFLite models without TensorFlow, and how long they take."""
