// The job behind Create image from a URI: probe → open → check sizes → store chunks → READY in one commit.
