"""The host's side of a training firmware: protocol, places, fine-tuning."""
