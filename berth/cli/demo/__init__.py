"""`berth demo`: the main job, seen in under a minute, with nothing installed and nothing left behind."""
