package fs

import (
	"context"
	"testing"
	"testing/synctest"
)

type slowNotifier struct{ answer chan struct{} }

func (n slowNotifier) EntryChanged(uint64, string) { <-n.answer }
func (n slowNotifier) DirChanged(uint64)           { <-n.answer }
func (n slowNotifier) NamesForgotten(uint64)       { <-n.answer }
func (n slowNotifier) ContentDropped(uint64)       { <-n.answer }

func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := &Tree{sp: newSpawner()}
		tree.notes.wake = make(chan struct{}, 1)
		tree.sp.start(tree.deliver)
		defer tree.sp.close()
		tree.Told(t.Context()) // nobody listens, nothing changed
		n := slowNotifier{make(chan struct{})}
		tree.SetNotifier(n)
		tree.tell([]note{{kind: dirChanged}, {kind: dirChanged}})
		told := make(chan struct{})
		go func() {
			tree.Told(context.Background())
			close(told)
		}()
		for range 2 {
			synctest.Wait()
			select {
			case <-told:
				t.Fatal("it did not wait for the Notifier")
			default:
			}
			n.answer <- struct{}{}
		}
		<-told
		// Who disarms drops what waits.
		tree.tell([]note{{kind: dirChanged}, {kind: dirChanged}})
		synctest.Wait()
		tree.SetNotifier(nil)
		tree.Told(t.Context())
		n.answer <- struct{}{}
	})
}
