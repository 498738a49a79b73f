package driver

import (
	"runtime"
	"syscall"
	"time"
)

// Schedule says when records are meant to be sent: at a constant rate, whatever the client does. Latency counts from
// there, so a client that holds up its caller is charged for all who had to wait behind. Above 1000 records a second
// they are intended in bursts, one every millisecond: no timer is finer than that in every language here.
type schedule struct {
	start time.Time
	rate  int64
	count int64
}

func startSchedule(rate int64, duration time.Duration) schedule {
	return schedule{time.Now(), rate, int64(float64(rate) * duration.Seconds())}
}

// Each calls send at every record's time. It sleeps in the kernel on a thread of its own: the runtime's timers are
// only as fine as a millisecond when nothing else runs.
func (s schedule) each(send func(index int64, intended time.Time)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for index := range s.count {
		intended := s.start.Add(s.offset(index))
		if early := time.Until(intended); early > 0 {
			timespec := syscall.NsecToTimespec(int64(early))
			// An interrupted sleep only sends a record early by a little.
			_ = syscall.Nanosleep(&timespec, nil)
		}
		send(index, intended)
	}
}

func (s schedule) offset(index int64) time.Duration {
	if s.rate > 1000 {
		return time.Duration(index*1000/s.rate) * time.Millisecond
	}
	return time.Duration(index * int64(time.Second) / s.rate)
}
