"""What a network that learns is: options, reports, the firmware's RAM."""
