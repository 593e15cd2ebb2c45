"""What tests share: real servers, fakes at the seams, helpers that start the shipped commands."""
