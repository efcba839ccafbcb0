//! Every environment variable, one section per concern; all mistakes are reported at once.
