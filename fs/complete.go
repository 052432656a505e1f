package fs

import "context"

// Complete brings the bytes to disk like blockcache.File.Complete. Local bytes
// fail with ErrLocal.
func (h *Handle) Complete(ctx context.Context) error {
	if h.w == nil {
		return h.f.Complete(ctx)
	}
	b, err := h.w.acquire()
	if err != nil {
		return err
	}
	defer h.w.release(b)
	if b.local != nil {
		return ErrLocal
	}
	return b.cache.Complete(ctx)
}

// Stored is how many of the bytes are in the cache on disk.
func (h *Handle) Stored() int64 {
	if h.w == nil {
		return h.f.Stored()
	}
	b, err := h.w.acquire()
	if err != nil {
		return 0
	}
	defer h.w.release(b)
	if b.local != nil {
		return 0
	}
	return b.cache.Stored()
}
