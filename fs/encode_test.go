package fs

import (
	"bytes"
	"reflect"
	"testing"

	"hfmount/remote/hub"
)

func TestEncode(t *testing.T) {
	es := append(manyEntries(3),
		hub.Entry{Path: "dir", Type: hub.Directory, OID: sha("t")},
		hub.Entry{Path: "plain", Size: hub.MaxSize, OID: sha("p")},
		hub.Entry{Path: "xet only", OID: sha("q"), XetHash: sha("x") + sha("x")[:24]})
	l, err := build(es, treeAt{key: gitID{1, 2}, date: -5})
	if err != nil {
		t.Fatal(err)
	}
	file := l.encode()
	got, err := decodeListing(file)
	if err != nil {
		t.Fatal(err)
	}
	got.repo, got.bytes = l.repo, l.bytes
	if !reflect.DeepEqual(got, l) {
		t.Errorf("%+v\nread back as %+v", l, got)
	}
	for i, e := range es {
		j, ok := got.find(e.Path)
		if !ok || got.entry(j) != e {
			t.Errorf("%d: %+v, %v; want %+v", i, got.entry(j), ok, e)
		}
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 0x10
		if _, err := decodeListing(bad); err == nil {
			t.Fatalf("damage at %d is not noticed", i)
		}
		if _, err := decodeListing(file[:i]); err == nil {
			t.Fatalf("the end after %d is not noticed", i)
		}
	}
}

// FuzzDecodeListing shows that nothing with a right checksum, whoever wrote
// it, gives a listing that breaks the rules or does not survive a round.
func FuzzDecodeListing(f *testing.F) {
	for n := range 4 {
		l, err := build(manyEntries(n), treeAt{})
		if err != nil {
			f.Fatal(err)
		}
		payload, err := openFile(magicListing, l.encode())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		l, err := decodeListing(sealFile(magicListing, payload))
		if err != nil {
			return
		}
		for i := range l.items {
			if err := hub.CheckName(l.items[i].name); err != nil {
				t.Fatal(err)
			}
			if j, ok := l.find(l.items[i].name); !ok || i != j {
				t.Fatalf("%q is not found", l.items[i].name)
			}
		}
		again, err := decodeListing(l.encode())
		if err != nil || !reflect.DeepEqual(l.items, again.items) {
			t.Fatalf("%v, then %v, %v", l.items, again, err)
		}
	})
}
