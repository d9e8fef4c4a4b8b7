//! What this process holds: threads, descriptors, memory.
