"""The control loop of a robot whose policy takes longer than a control period (runtime_c/control), from Python."""
