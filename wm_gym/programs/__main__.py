"""`python -m wm_gym.programs` is `wm-gym`."""

from wm_gym.programs import main

main()
