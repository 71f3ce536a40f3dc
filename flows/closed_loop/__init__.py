"""The closed loop: simulated people read the job's feeds, and what they do with them is what it learns from."""
