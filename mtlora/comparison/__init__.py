"""The paper's table at one's own scale: methods trained alike on one backbone, scored alike."""
