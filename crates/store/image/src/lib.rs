//! Images: references, manifests, unpacking, docker load and import.
