package workload

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A CronJob whose time came while nobody looked makes its Job as soon as somebody does. That is how its schedule is tried here without waiting for
// a minute to end: the schedules are of yesterday, once a year, and the last run was before that.
func TestCronJobKeepsItsSchedule(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	jobs, cronJobs := api.client.BatchV1().Jobs(ns), api.client.BatchV1().CronJobs(ns)
	yesterday := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	at := func(hour int) string { return fmt.Sprintf("0 %d %d %d *", hour, yesterday.Day(), yesterday.Month()) }
	jobOf := func(name string, hour int) string {
		return fmt.Sprintf("%s-%d", name, yesterday.Add(time.Duration(hour)*time.Hour).Unix()/60)
	}
	patch := func(name, text string, sub ...string) {
		t.Helper()
		if _, err := cronJobs.Patch(t.Context(), name, types.MergePatchType, []byte(text), metav1.PatchOptions{}, sub...); err != nil {
			t.Fatal(err)
		}
	}
	create := func(name string, edit func(*batchv1.CronJobSpec)) {
		t.Helper()
		c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.CronJobSpec{
			Schedule: at(0), TimeZone: new("UTC"), ConcurrencyPolicy: batchv1.ForbidConcurrent,
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "example.test/one"}},
			}}}},
		}}
		edit(&c.Spec)
		if _, err := cronJobs.Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	lastRun := func(name string) {
		t.Helper()
		patch(name, fmt.Sprintf(`{"status":{"lastScheduleTime":%q}}`, yesterday.AddDate(0, 0, -2).Format(time.RFC3339)), "status")
	}
	await := func(what string, check func() error) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for err := check(); err != nil; err = check() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v", what, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	// has waits until the Jobs of the namespace are these.
	has := func(what string, want ...string) {
		t.Helper()
		slices.Sort(want)
		await(what, func() error {
			list, err := jobs.List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			var got []string
			for _, j := range list.Items {
				got = append(got, j.Name)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				return fmt.Errorf("the Jobs are %q, want %q", got, want)
			}
			return nil
		})
	}
	// looked makes the controller look at it for another reason than its schedule.
	looked := func(name string) {
		patch(name, fmt.Sprintf(`{"metadata":{"annotations":{"looked":"%d"}}}`, time.Now().UnixNano()))
	}

	create("nightly", func(*batchv1.CronJobSpec) {})
	lastRun("nightly")
	has("its time came", jobOf("nightly", 0))
	await("the status", func() error {
		c, err := cronJobs.Get(t.Context(), "nightly", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(c.Status.Active) != 1 || c.Status.Active[0].Name != jobOf("nightly", 0) || !c.Status.LastScheduleTime.Time.Equal(yesterday) {
			return fmt.Errorf("%+v", c.Status)
		}
		return nil
	})

	// One that runs forbids the next one, or gives way to it.
	patch("nightly", fmt.Sprintf(`{"spec":{"schedule":%q}}`, at(1)))
	looked("nightly")
	await("the next one is held back, with a word", func() error {
		events, err := api.client.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=nightly,reason=JobAlreadyActive"})
		if err == nil && len(events.Items) == 0 {
			err = errors.New("no such event")
		}
		return err
	})
	has("one at a time", jobOf("nightly", 0))
	patch("nightly", `{"spec":{"concurrencyPolicy":"Replace"}}`)
	has("the next one instead", jobOf("nightly", 1))

	// One that is suspended, and one that has missed its deadline, make none. That they were looked at is seen by one that came after them.
	patch("nightly", `{"spec":{"suspend":true}}`)
	patch("nightly", fmt.Sprintf(`{"spec":{"schedule":%q}}`, at(2)))
	looked("nightly")
	create("late", func(s *batchv1.CronJobSpec) { s.StartingDeadlineSeconds = new(int64(60)) })
	lastRun("late")
	create("witness", func(*batchv1.CronJobSpec) {})
	lastRun("witness")
	has("suspended, and too late", jobOf("nightly", 1), jobOf("witness", 0))

	patch("nightly", `{"spec":{"suspend":false,"concurrencyPolicy":"Allow"}}`)
	has("two at a time", jobOf("nightly", 1), jobOf("nightly", 2), jobOf("witness", 0))
}
