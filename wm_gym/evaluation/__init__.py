"""How true a dream is: measured on episodes never trained on, against the real system."""
