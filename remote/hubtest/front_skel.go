package hubtest

// front is the HTTP side.
type front struct{}
