"""What training costs in privacy: accounting, projection, and the rule that says no."""
