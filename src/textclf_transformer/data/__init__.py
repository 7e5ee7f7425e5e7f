"""From text to batches: reading, the token store, chunking, sampling, collating."""
