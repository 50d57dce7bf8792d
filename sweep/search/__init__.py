"""Policies of the sweep: candidates, tournament, admission, budget. No Ray, no clock but the caller's."""
