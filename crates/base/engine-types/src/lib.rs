//! Wire types of the Docker Engine API with the JSON rules of Go.
