"""All live posts: their columns, Thunder's in-network look-up and the candidate index over them."""
