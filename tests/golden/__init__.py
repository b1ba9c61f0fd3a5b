"""Golden traces: what dreams, gradients, agents and training return for fixed seeds, kept.

They prove that a refactor changes no behaviour, so only public names are used here. `record.py`
says how they are compared and made anew.
"""
