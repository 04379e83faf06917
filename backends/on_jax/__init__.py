"""JAX. `backend` binds the library; a file for each family of portable functions has the twins."""
