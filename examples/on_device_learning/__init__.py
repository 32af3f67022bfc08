"""Firmware that learns on the device."""
