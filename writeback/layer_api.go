package writeback

var errSkeleton = ErrHeld
