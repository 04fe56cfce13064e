package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// prepared is one photo as the bytes of a request, but for the budget, which is known last.
type prepared struct {
	head  []byte
	body  []byte
	class int
}

// budgetHeader ends the head of every request; servers without budgets ignore it.
const budgetHeader = "X-Latency-Budget-Ms: %.3f\r\n\r\n"

const jsonType = "Content-Type: application/json\r\n"

func encode(photos []photo, format, target string, budget time.Duration) ([]prepared, error) {
	parsed, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	all := make([]prepared, len(photos))
	for i, photo := range photos {
		headers, body, err := payload(photo.file, format, budget)
		if err != nil {
			return nil, err
		}
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n%s",
			parsed.RequestURI(), parsed.Host, len(body), headers)
		all[i] = prepared{[]byte(head), body, photo.class}
	}
	return all, nil
}

func payload(file []byte, format string, budget time.Duration) (headers string, body []byte, err error) {
	switch format {
	case "raw":
		return "Content-Type: image/jpeg\r\n", file, nil
	case "json":
		return jsonType, fmt.Appendf(nil, `{"image":%q}`, base64.StdEncoding.EncodeToString(file)), nil
	case "v1-json":
		text := `{"instances":[{"image":{"b64":%q}}]}`
		return jsonType, fmt.Appendf(nil, text, base64.StdEncoding.EncodeToString(file)), nil
	case "v2-json":
		text := fmt.Sprintf(`{"inputs":[{"name":"image","shape":[1,1],"datatype":"BYTES","parameters":{"content_type":"base64"},"data":[%q]}]}`,
			base64.StdEncoding.EncodeToString(file))
		return jsonType, []byte(text), nil
	case "v2-binary":
		// Binary tensor extension: a JSON header, then the file behind its length. Half of the
		// budget may be spent in Triton's queue.
		head := fmt.Sprintf(`{"parameters":{"timeout":%d},"inputs":[{"name":"image","shape":[1,1],"datatype":"BYTES","parameters":{"binary_data_size":%d}}]}`,
			budget.Microseconds()/2, len(file)+4)
		body = binary.LittleEndian.AppendUint32([]byte(head), uint32(len(file)))
		headers = fmt.Sprintf("Content-Type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n", len(head))
		return headers, append(body, file...), nil
	}
	return "", nil, fmt.Errorf("unknown format %q", format)
}

// reply holds whatever a server may call its answer.
type reply struct {
	Class       *int `json:"class"`
	Predictions []struct {
		Index int `json:"index"`
	} `json:"predictions"`
	Outputs []struct {
		Data []int `json:"data"`
	} `json:"outputs"`
}

// classOf reads the class index from an answer; -1: there is none.
func classOf(body []byte) int {
	var r reply
	switch err := json.Unmarshal(body, &r); {
	case err != nil:
		return -1
	case r.Class != nil:
		return *r.Class
	case len(r.Predictions) > 0:
		return r.Predictions[0].Index
	case len(r.Outputs) > 0 && len(r.Outputs[0].Data) > 0:
		return r.Outputs[0].Data[0]
	}
	return -1
}
