package driver

import (
	"bytes"
	"fmt"
	"os"
)

// Lines are the lines of a file, in a circle.
type Lines struct{ lines [][]byte }

func readLines(path string) (*Lines, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(text) == 0 {
		return nil, fmt.Errorf("%s holds no lines", path)
	}
	return &Lines{bytes.Split(bytes.TrimSuffix(text, []byte{'\n'}), []byte{'\n'})}, nil
}

// At is line index, modulo their number.
func (l *Lines) At(index int64) []byte { return l.lines[index%int64(len(l.lines))] }

// How many bytes the first count lines of the circle are.
func (l *Lines) bytesOf(count int64) (bytes int64) {
	rounds, rest := count/int64(len(l.lines)), count%int64(len(l.lines))
	for index, line := range l.lines {
		times := rounds
		if int64(index) < rest {
			times++
		}
		bytes += times * int64(len(line))
	}
	return bytes
}

// Records are those of one run, in order.
type Records struct {
	values, keys *Lines
	value, key   int
	left         int64
}

// Next is the next record's key, which is nil if keys are not wanted, and value.
func (r *Records) Next() (key, value []byte, ok bool) {
	if r.left == 0 {
		return nil, nil, false
	}
	r.left--
	if r.keys != nil {
		key = r.keys.lines[r.key]
		if r.key++; r.key == len(r.keys.lines) {
			r.key = 0
		}
	}
	value = r.values.lines[r.value]
	if r.value++; r.value == len(r.values.lines) {
		r.value = 0
	}
	return key, value, true
}
