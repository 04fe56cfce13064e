package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// poisson gives the intended moments of a run, from its start.
func poisson(rate, seconds float64, seed uint64) []time.Duration {
	random := rand.New(rand.NewPCG(seed, 1))
	var times []time.Duration
	for at := random.ExpFloat64() / rate; at < seconds; at += random.ExpFloat64() / rate {
		times = append(times, time.Duration(at*float64(time.Second)))
	}
	return times
}

type job struct {
	index    int
	intended time.Time
}

// pool hands jobs to connections: the one used last first, as HTTP clients do; a new one where none
// is idle; and where all are busy, jobs wait in the order of their coming.
type pool struct {
	mutex   sync.Mutex
	idle    []*connection
	open    int
	limit   int
	waiting []job
	done    sync.WaitGroup
	play    func(*connection, job)
}

type connection struct {
	jobs    chan job
	socket  net.Conn
	replies *bufio.Reader
	writing []byte
}

func (p *pool) submit(j job) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if last := len(p.idle) - 1; last >= 0 {
		c := p.idle[last]
		p.idle = p.idle[:last]
		c.jobs <- j
		return
	}
	if p.open == p.limit {
		p.waiting = append(p.waiting, j)
		return
	}
	p.open++
	c := &connection{jobs: make(chan job, 1)}
	c.jobs <- j
	go p.serve(c)
}

// serve plays jobs on one connection until its channel is closed.
func (p *pool) serve(c *connection) {
	for j := range c.jobs {
		for more := true; more; {
			p.play(c, j)
			p.done.Done()
			p.mutex.Lock()
			if more = len(p.waiting) > 0; more {
				j = p.waiting[0]
				p.waiting = p.waiting[1:]
			} else {
				p.idle = append(p.idle, c)
			}
			p.mutex.Unlock()
		}
	}
	c.close()
}

func (c *connection) close() {
	if c.socket != nil {
		_ = c.socket.Close()
		c.socket = nil
	}
}

// play sends a request at each of the times, whether or not earlier ones were answered, and returns
// when every request has its outcome.
func play(address string, requests []prepared, times []time.Duration, s settings) []outcome {
	outcomes := make([]outcome, len(times))
	random := rand.New(rand.NewPCG(s.seed, 2))
	chosen := make([]int, len(times))
	for i := range chosen {
		chosen[i] = random.IntN(len(requests))
	}
	p := &pool{limit: s.connections}
	p.play = func(c *connection, j job) {
		outcomes[j.index] = c.ask(address, &requests[chosen[j.index]], j.intended, s)
	}
	p.done.Add(len(times))
	start := time.Now().Add(50 * time.Millisecond)
	for i, at := range times {
		intended := start.Add(at)
		time.Sleep(time.Until(intended))
		p.submit(job{i, intended})
	}
	p.done.Wait()
	p.mutex.Lock()
	for _, c := range p.idle {
		close(c.jobs)
	}
	p.mutex.Unlock()
	return outcomes
}

// ask sends one request and waits for its answer, at most until it is given up.
func (c *connection) ask(address string, r *prepared, intended time.Time, s settings) outcome {
	left := s.budget - time.Since(intended)
	if left <= 0 {
		return outcome{kind: unsent}
	}
	deadline := intended.Add(s.giveUp)
	for attempt := 0; ; attempt++ {
		reused := c.socket != nil
		status, body, err := c.exchange(address, r, left, deadline)
		if err == nil {
			return classify(status, body, r.class, time.Since(intended), s.budget)
		}
		c.close()
		// A server may close an idle connection just as it is used: once more on a new one.
		if !reused || attempt > 0 || time.Now().After(deadline) {
			return outcome{kind: failed}
		}
	}
}

func (c *connection) exchange(address string, r *prepared, left time.Duration, deadline time.Time) (int, []byte, error) {
	if c.socket == nil {
		socket, err := net.DialTimeout("tcp", address, time.Until(deadline))
		if err != nil {
			return 0, nil, err
		}
		c.socket, c.replies = socket, bufio.NewReader(socket)
	}
	if err := c.socket.SetDeadline(deadline); err != nil {
		return 0, nil, err
	}
	milliseconds := math.Max(0.1, float64(left)/float64(time.Millisecond))
	c.writing = append(c.writing[:0], r.head...)
	c.writing = fmt.Appendf(c.writing, budgetHeader, milliseconds)
	c.writing = append(c.writing, r.body...)
	if _, err := c.socket.Write(c.writing); err != nil {
		return 0, nil, err
	}
	response, err := http.ReadResponse(c.replies, nil)
	if err != nil {
		return 0, nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err == nil && response.Close {
		c.close()
	}
	return response.StatusCode, body, err
}
