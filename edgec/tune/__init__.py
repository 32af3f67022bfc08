"""The search for what a network should train on the device."""
