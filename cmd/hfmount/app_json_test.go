package main

import "testing"

func TestWantsJSON(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  string
		want bool
	}{
		{nil, "", false},
		{[]string{"commit", "--json", "m"}, "", true},
		{[]string{"commit", "-json"}, "", true},
		{[]string{"status", "--json=true"}, "", true},
		{[]string{"status", "--json=1"}, "", true},
		{[]string{"status", "--json=false"}, "1", false},
		{[]string{"status"}, "true", true},
		{[]string{"status"}, "0", false},
		{[]string{"status"}, "no", false},
		{[]string{"cat", "json", "x.json"}, "", false},
		{[]string{"cat", "json=1"}, "", false},
	} {
		if got := wantsJSON(c.args, c.env); got != c.want {
			t.Errorf("%q with %q: got %v", c.args, c.env, got)
		}
	}
}
