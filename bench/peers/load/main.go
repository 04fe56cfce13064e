// Command load sends labelled photos to one server on this machine, open loop, and prints as JSON
// what became of them.
//
//	load -url http://127.0.0.1:8080/classify -photos runs/live-photos -labels cat,dog -rate 200 -seconds 5
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"
)

type settings struct {
	url         string
	format      string
	photos      string
	labels      string
	rate        float64
	seconds     float64
	budget      time.Duration
	giveUp      time.Duration
	seed        uint64
	connections int
}

// maxSeconds bounds a run, whatever is asked for.
const maxSeconds = 600

func main() {
	s := parse()
	address, err := loopback(s.url)
	fail(err)
	photos, err := readPhotos(s.photos, s.labels)
	fail(err)
	requests, err := encode(photos, s.format, s.url, s.budget)
	fail(err)

	times := poisson(s.rate, s.seconds, s.seed)
	ownBefore := ownTime()
	outcomes := play(address, requests, times, s)
	report := tally(outcomes, s.seconds)
	report.Offered = float64(len(times)) / s.seconds
	report.LoadCPU = ownTime() - ownBefore
	fail(json.NewEncoder(os.Stdout).Encode(report))
}

func parse() settings {
	var s settings
	flag.StringVar(&s.url, "url", "", "where to post; loopback only")
	flag.StringVar(&s.format, "format", "raw", "raw, json, v1-json, v2-binary or v2-json")
	flag.StringVar(&s.photos, "photos", "", "folder with <label>/*.jpg")
	flag.StringVar(&s.labels, "labels", "", "labels in the model's order, with commas")
	flag.Float64Var(&s.rate, "rate", 0, "requests/s offered, Poisson")
	flag.Float64Var(&s.seconds, "seconds", 5, "length of the run")
	flag.DurationVar(&s.budget, "budget", 100*time.Millisecond, "from the intended send to the answer")
	flag.DurationVar(&s.giveUp, "give-up", 2*time.Second, "an answer that takes longer is not waited for")
	flag.Uint64Var(&s.seed, "seed", 1, "of the arrivals and of the choice of photos")
	flag.IntVar(&s.connections, "connections", 512, "at most so many open at once")
	flag.Parse()
	if s.rate <= 0 || s.seconds <= 0 || s.seconds > maxSeconds || s.connections < 1 {
		fail(fmt.Errorf("needed: -rate above 0, -seconds up to %d, -connections above 0", maxSeconds))
	}
	return s
}

// loopback is the host and port of a URL, which must be of this machine.
func loopback(target string) (string, error) {
	parsed, err := url.Parse(target)
	if err != nil {
		return "", err
	}
	ip := net.ParseIP(parsed.Hostname())
	if ip == nil || !ip.IsLoopback() {
		return "", fmt.Errorf("%q is not a loopback address", parsed.Hostname())
	}
	return parsed.Host, nil
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
