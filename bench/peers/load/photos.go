package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

type photo struct {
	file []byte
	// class is the position of its label in the model.
	class int
}

// readPhotos reads <folder>/<label>/<size>-*.jpg, as bench/live/photos.py writes them, or *.jpg.
func readPhotos(folder, size, labels string) ([]photo, error) {
	pattern := size + "-*.jpg"
	if size == "all" {
		pattern = "*.jpg"
	}
	var photos []photo
	for class, label := range strings.Split(labels, ",") {
		paths, err := filepath.Glob(filepath.Join(folder, label, pattern))
		if err != nil {
			return nil, err
		}
		sort.Strings(paths)
		for _, path := range paths {
			file, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			photos = append(photos, photo{file, class})
		}
	}
	if len(photos) == 0 {
		return nil, fmt.Errorf("no %s below %s for labels %q", pattern, folder, labels)
	}
	return photos, nil
}
