"""What the coordinator and the participants must agree on."""
