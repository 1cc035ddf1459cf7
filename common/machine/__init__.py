"""What this machine is: its processor, devices, processes, ranks and precisions."""
