"""The coordinator's end of the fleet: a Flower grid over one gRPC stream per member."""
