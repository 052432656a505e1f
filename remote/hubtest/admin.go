package hubtest

import (
	"encoding/json"
	"net/http"
	"time"
)

// admin serves /_hub/, the tests' side door (cli.md "hfmount hub"). It is
// neither counted nor shaped and needs no token.
func (f *front) admin(w http.ResponseWriter, r *http.Request) {
	h := f.hub
	switch r.Method + " " + r.URL.Path {
	case "GET /_hub/stats":
		writeJSON(w, http.StatusOK, h.Stats())
	case "DELETE /_hub/stats":
		h.ResetStats()
		w.WriteHeader(http.StatusNoContent)
	case "POST /_hub/shape":
		// What is left out keeps its value.
		shape := struct {
			LatencyMS      *float64 `json:"latency_ms"`
			BytesPerSecond *int64   `json:"bytes_per_second"`
			Multipart      *int64   `json:"multipart_threshold"`
			PartSize       *int64   `json:"part_size"`
		}{}
		if !readAdmin(w, r, &shape) {
			return
		}
		latency, rate := time.Duration(f.latency.Load()), f.bandwidth.Load()
		if shape.LatencyMS != nil {
			latency = time.Duration(*shape.LatencyMS * float64(time.Millisecond))
		}
		if shape.BytesPerSecond != nil {
			rate = *shape.BytesPerSecond
		}
		above, part := f.multipart.Load(), f.partSize.Load()
		if shape.Multipart != nil {
			above = *shape.Multipart
		}
		if shape.PartSize != nil {
			part = *shape.PartSize
		}
		if latency < 0 || rate < 0 || above < 0 || part < 1 {
			refuse(w, http.StatusBadRequest, "", "latency_ms, bytes_per_second and multipart_threshold must not be negative, part_size must be positive")
			return
		}
		h.Shape(latency, rate)
		h.ShapeUploads(above, part)
		w.WriteHeader(http.StatusNoContent)
	case "GET /_hub/faults":
		writeJSON(w, http.StatusOK, h.Faults())
	case "POST /_hub/faults":
		var rules []Fault
		if !readAdmin(w, r, &rules) {
			return
		}
		if err := h.SetFaults(rules...); err != nil {
			refuse(w, http.StatusBadRequest, "", err.Error())
			return
		}
		writeJSON(w, http.StatusOK, h.Faults())
	case "DELETE /_hub/faults":
		h.SetFaults() // no rule, no error
		w.WriteHeader(http.StatusNoContent)
	case "POST /_hub/expire":
		h.ExpireURLs()
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusNotFound, "", "No such admin call: "+r.Method+" "+r.URL.Path)
	}
}

func readAdmin(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		refuse(w, http.StatusBadRequest, "", err.Error())
		return false
	}
	return true
}
