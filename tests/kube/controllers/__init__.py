"""A stand-in for the controller manager, on the test API server: see `manager`."""
