"""The parts of `examples/fog_vs_ppo.py`: what is run, what it leaves behind, what that says."""
