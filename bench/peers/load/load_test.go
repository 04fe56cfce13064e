package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestClassifyCountsWhatACallerGets(t *testing.T) {
	budget := 100 * time.Millisecond
	for _, c := range []struct {
		status  int
		body    string
		latency time.Duration
		want    kind
	}{
		{200, `{"class":3}`, budget, right},
		{200, `{"predictions":[{"label":"cat","index":3}]}`, budget / 2, right},
		{200, `{"outputs":[{"name":"class","data":[3]}]}`, budget / 2, right},
		{200, `{"class":0}`, budget / 2, wrong},
		{200, `{"class":3}`, budget + 1, late},
		{200, `{"class":0}`, budget + 1, late},
		{200, `{}`, budget / 2, failed},
		{200, `no JSON`, budget / 2, failed},
		{503, ``, budget / 2, refused},
		{504, ``, 2 * budget, refused},
		{429, ``, budget / 2, refused},
		{400, ``, budget / 2, failed},
		{500, ``, budget / 2, failed},
	} {
		if got := classify(c.status, []byte(c.body), 3, c.latency, budget); got.kind != c.want {
			t.Errorf("%d %s after %v: %d, want %d", c.status, c.body, c.latency, got.kind, c.want)
		}
	}
}

func TestTallyAddsUp(t *testing.T) {
	ms := time.Millisecond
	report := tally([]outcome{
		{right, 10 * ms}, {right, 20 * ms}, {wrong, 30 * ms}, {late, 400 * ms},
		{refused, ms}, {failed, ms}, {unsent, 0},
	}, 2)
	sum := report.Right + report.Wrong + report.Late + report.Refused + report.Failed + report.Unsent
	if sum != report.Requests || report.Requests != 7 || report.Right != 2 || report.Goodput != 1 {
		t.Errorf("%+v", report)
	}
	if report.LatencyMs != [3]float64{20, 400, 400} {
		t.Errorf("refused ones count as answers: %v", report.LatencyMs)
	}
}

func TestPoissonIsSeeded(t *testing.T) {
	one, same, other := poisson(100, 50, 1), poisson(100, 50, 1), poisson(100, 50, 2)
	if len(one) != len(same) || one[7] != same[7] || one[7] == other[7] {
		t.Error("arrivals do not depend on the seed alone")
	}
	if len(one) < 4700 || len(one) > 5300 {
		t.Errorf("%d arrivals, not about 5000", len(one))
	}
}

// A server that takes longer than requests come: few connections, so most are late or never sent,
// and the clock runs from the intended send, not from the moment a connection was free.
func TestPlayIsTimedFromTheIntendedSend(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(20 * time.Millisecond)
		fmt.Fprint(w, `{"class":3}`)
	}))
	defer server.Close()
	s := settings{budget: 50 * time.Millisecond, giveUp: time.Second, seed: 1, connections: 2}
	requests, err := encode([]photo{{[]byte("jpeg"), 3}}, "raw", server.URL+"/classify", s.budget)
	if err != nil {
		t.Fatal(err)
	}
	address, err := loopback(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	report := tally(play(address, requests, poisson(400, 1, 1), s), 1)
	if report.Right == 0 || report.Right > 100 || report.Unsent == 0 || report.Failed > 0 {
		t.Errorf("two connections of 50/s each: %+v", report)
	}
	if report.Right+report.Late+report.Unsent != report.Requests {
		t.Errorf("outcomes are missing: %+v", report)
	}
}

func TestOnlyLoopback(t *testing.T) {
	for _, url := range []string{"http://10.0.0.1:80/", "http://example.org/", "http://[2001:db8::1]/"} {
		if _, err := loopback(url); err == nil {
			t.Errorf("%s was let through", url)
		}
	}
}
