//! Go templates as the docker command line uses them.
