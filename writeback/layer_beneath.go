package writeback

// Beneath counts the changes beneath a directory, at any depth, that show
// something and those that delete something, without looking at them. dir is
// not the root.
func (l *Layer) Beneath(dir string) (shown, deletes int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := l.dirs[parentOf(dir)]
	if n == nil {
		return 0, 0
	}
	return n.shown[baseOf(dir)], n.deletes[baseOf(dir)]
}
