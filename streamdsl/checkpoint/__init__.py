"""Control plane of the barrier: coordinator, manifest, storage, recovery. Tasks are names here, state is files."""
