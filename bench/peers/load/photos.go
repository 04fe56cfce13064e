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

// readPhotos reads <folder>/<label>/*.jpg, for every one of the labels, which commas separate.
func readPhotos(folder, labels string) ([]photo, error) {
	var photos []photo
	for class, label := range strings.Split(labels, ",") {
		paths, err := filepath.Glob(filepath.Join(folder, label, "*.jpg"))
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
		return nil, fmt.Errorf("no *.jpg below %s for labels %q", folder, labels)
	}
	return photos, nil
}
