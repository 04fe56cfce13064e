package main

import (
	"math"
	"sort"
	"time"
)

type kind int

const (
	failed     kind = iota // no answer, or one that is no answer: connection lost, given up, 4xx, 5xx
	right                  // the right class within the budget
	wrong                  // another class within the budget
	late                   // any answer, but after the budget
	refused                // the server said at some time that it would not answer: 503, 429, 504, 408
	unsent                 // no connection was free within the budget
	kindsCount = iota
)

type outcome struct {
	kind    kind
	latency time.Duration
}

// Report is what one run gave. Counts add up to Requests; times in ms, of all answers (right, wrong
// and late) from the intended send; CPU time in seconds, the generator's own.
type Report struct {
	Offered   float64    `json:"offered"`
	Requests  int        `json:"requests"`
	Right     int        `json:"right"`
	Wrong     int        `json:"wrong"`
	Late      int        `json:"late"`
	Refused   int        `json:"refused"`
	Failed    int        `json:"failed"`
	Unsent    int        `json:"unsent"`
	Goodput   float64    `json:"goodput"`
	LatencyMs [3]float64 `json:"latencyMs"`
	LoadCPU   float64    `json:"loadCpuSeconds"`
}

// classify says what a reply is worth to a caller whose budget began at the intended send.
func classify(status int, body []byte, class int, latency, budget time.Duration) outcome {
	switch status {
	case 200:
	case 503, 429, 504, 408:
		return outcome{refused, latency}
	default:
		return outcome{failed, latency}
	}
	answer := classOf(body)
	switch {
	case answer < 0:
		return outcome{failed, latency}
	case latency > budget:
		return outcome{late, latency}
	case answer == class:
		return outcome{right, latency}
	}
	return outcome{wrong, latency}
}

func tally(outcomes []outcome, seconds float64) Report {
	var counts [kindsCount]int
	var answered []float64
	for _, o := range outcomes {
		counts[o.kind]++
		if o.kind == right || o.kind == wrong || o.kind == late {
			answered = append(answered, float64(o.latency)/float64(time.Millisecond))
		}
	}
	sort.Float64s(answered)
	return Report{
		Requests:  len(outcomes),
		Right:     counts[right],
		Wrong:     counts[wrong],
		Late:      counts[late],
		Refused:   counts[refused],
		Failed:    counts[failed],
		Unsent:    counts[unsent],
		Goodput:   float64(counts[right]) / seconds,
		LatencyMs: [3]float64{percentile(answered, 0.5), percentile(answered, 0.95), percentile(answered, 0.99)},
	}
}

// percentile of ascending values by nearest rank; -1: there are none.
func percentile(values []float64, at float64) float64 {
	if len(values) == 0 {
		return -1
	}
	return values[max(0, int(math.Ceil(at*float64(len(values))))-1)]
}
