package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// ticksPerSecond of /proc/PID/stat: 100 on every Linux that has a /proc.
const ticksPerSecond = 100

// processTime adds up user and system time of all processes whose environment has the marker,
// children that have ended included. Processes that leave their parent (Ray's do) keep it.
func processTime(marker string) float64 {
	if marker == "" {
		return 0
	}
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	ticks := 0
	for _, path := range environments {
		environment, err := os.ReadFile(path)
		if err != nil || !hasVariable(environment, marker) {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(path), "stat"))
		if err == nil {
			ticks += ticksOf(stat)
		}
	}
	return float64(ticks) / ticksPerSecond
}

func hasVariable(environment []byte, marker string) bool {
	for _, variable := range bytes.Split(environment, []byte{0}) {
		if string(variable) == marker {
			return true
		}
	}
	return false
}

// ticksOf adds utime, stime, cutime and cstime: fields 14 to 17, counted behind the name in brackets.
func ticksOf(stat []byte) int {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	sum := 0
	for i := 11; i < 15 && i < len(fields); i++ {
		ticks, _ := strconv.Atoi(string(fields[i]))
		sum += ticks
	}
	return sum
}

func ownTime() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}
