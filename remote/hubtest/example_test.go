package hubtest_test

import (
	"fmt"
	"io"
	"net/http"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// A Hub in memory, a repository with a file, and a client without a socket.
func Example() {
	h, err := hubtest.New(hubtest.Options{})
	if err != nil {
		panic(err)
	}
	defer h.Close()
	repo := hub.Repo{Namespace: "ada", Name: "tiny"}
	if err := h.CreateRepo(repo, hubtest.RepoOptions{}); err != nil {
		panic(err)
	}
	if _, err := h.Commit(repo, "main", "Add a greeting", map[string][]byte{"hello.txt": []byte("hello\n")}); err != nil {
		panic(err)
	}
	client := &http.Client{Transport: h.RoundTripper()}
	resp, err := client.Get("http://hub.test/ada/tiny/resolve/main/hello.txt")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s%v requests", body, h.Stats().Total)
	// Output:
	// hello
	// 2 requests
}

// The second range of a file comes back wrong, once.
func ExampleHub_SetFaults() {
	h, err := hubtest.New(hubtest.Options{})
	if err != nil {
		panic(err)
	}
	defer h.Close()
	err = h.SetFaults(hubtest.Fault{Host: "cdn", Method: "GET", Nth: 2, Times: 1, Fault: "wrong-range"})
	fmt.Println(err, h.Faults()[0].Fired)
	// Output: <nil> 0
}
