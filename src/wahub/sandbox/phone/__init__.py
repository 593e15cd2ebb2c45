"""Virtual phones: the people of the sandbox. A phone is device 0 of its account and the only place with plaintext."""
