package main

import (
	"hfmount/remote"
	"hfmount/writeback"
)

// The client is the queue's Hub; neither package may import the other.
var _ writeback.Hub = (*remote.Client)(nil)
