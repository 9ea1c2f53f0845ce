"""From waiting images to micro-batches: a bounded queue, a pure policy, one worker thread."""
