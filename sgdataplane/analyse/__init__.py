"""Questions about states, answered from the states alone."""
