"""Networks, and the maths they are trained and sampled with."""
